"""`tram-gateway doctor`: what keeps a gateway from its work, found by trying, told in plain words.

Each check is a generator of findings and changes nothing. `findings` puts them into words, `examination` runs them all.
"""
