"""The HTTP API: thin routes over the same use cases as the command line. One noun a file.

`app` puts it together. A request comes in through `door` (what every request has: an id, headers, a line in the log), then
through `route` (who asks, may they, how large may the body be, whose turn is it), and then meets its use case in a thread.
"""
