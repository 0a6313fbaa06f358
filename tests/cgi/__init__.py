"""The CGI: as a function, and as the process that the web server starts."""
