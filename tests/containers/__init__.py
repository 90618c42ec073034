"""The stack of docker/, built and run by a real Docker, as its README says: ``make containers``."""
