"""The dashboard's static files: `static/index.html`, its modules and styles, and the libraries of others in `vendor`.

No build step: what stands here is what the browser gets. `cdxsync.api` serves it at `/admin/`.
"""
