"""The tour of `make demo`: it knows the site over HTTP only, as a browser does, and imports no Django.

server      the server's process: started, looked into, killed
visitor     somebody with a browser: cookies, forms, a job's page
pulse       what other requests feel meanwhile
told        prints, and remembers what did not hold
ways, endings, inside, recovery     the chapters
"""
