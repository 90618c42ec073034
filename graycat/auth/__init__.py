"""Who calls and what they may: API tokens of three kinds, their limits, and signatures."""
