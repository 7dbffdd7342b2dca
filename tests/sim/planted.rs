//! The simulator simulated: bugs that are planted have to be found, and by the check that one would expect.
