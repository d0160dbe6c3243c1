"""The HTTP door: `host` and `admin` declare the routes, one module a resource; `app` mounts them.

`routes` is what a declaration is made of, `access` says who may call, `envelope` is the shape of answers.
"""
