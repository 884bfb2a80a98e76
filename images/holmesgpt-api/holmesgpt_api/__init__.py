"""holmesgpt-api for end-to-end tests: HolmesGPT's place, taken by recorded cases and no model.

The modules in the order in which a question meets them: `__main__` (settings, server), `app` (routes,
validation), `cases` (which recorded answer), `metrics` and `logs` (what is left of it).
"""
