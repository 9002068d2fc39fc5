"""Files and folders from the object store, the web or this machine, archives unpacked."""
