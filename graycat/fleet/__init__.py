"""What each worker last reported of itself, and what its engine has."""
