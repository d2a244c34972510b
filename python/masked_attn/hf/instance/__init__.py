"""What stands in for a method of one instance, and what others have put there."""
