"""What watches graycat: rules, dashboards and the stack that they run in."""
