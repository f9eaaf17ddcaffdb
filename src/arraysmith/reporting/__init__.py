"""What people look at: facts first (`tables`), then PNG (`png`) and HTML (`html`) drawings."""
