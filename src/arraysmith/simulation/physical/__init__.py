"""The model `physical`: what the array and its memories would really do."""
