"""What the documentation's pages say of the code, made from the code when the site is built."""
