"""What two or more steps need: command-line habits, data sets, files, the object store, KFP outputs."""
