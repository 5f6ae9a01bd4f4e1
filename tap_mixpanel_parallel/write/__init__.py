"""From parts to whoever reads them."""
