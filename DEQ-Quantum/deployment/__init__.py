"""Trained models taken to hardware: evaluated under noise, exported. Knows runs, models, data and `hardware/`."""
