"""What the reports of steps share: style, tables and formats. A report is one HTML file that needs nothing else."""
