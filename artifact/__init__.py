"""What only this paper's runs need: profiles, the steps of a run, its summary."""
