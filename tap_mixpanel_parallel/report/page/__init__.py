"""The run report: one HTML page for whoever looks the next morning.

`recorder` notes what happens, `traces`, `calendar` and `contents` make values of it, and
`render` makes the page.
"""
