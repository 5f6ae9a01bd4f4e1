"""What a person, and a program that uses the tap, see of a run."""
