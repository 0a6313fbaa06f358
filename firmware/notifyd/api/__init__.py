"""HTTP over the Unix sockets: one file per subject, one table of operations and who may use them."""
