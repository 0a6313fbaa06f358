"""notifyctl: the command line to notifyd's admin socket."""
