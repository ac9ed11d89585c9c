"""Time series: numbers over time, in one channel or several."""
