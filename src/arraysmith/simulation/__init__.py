"""Models of time. `scalesim` equals SCALE-Sim 3.0.0; every number says which model it is from."""
