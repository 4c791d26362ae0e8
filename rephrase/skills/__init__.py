"""The style `skill_synthesis`: new questions for missing skills, with solutions that agree (arXiv 2510.10023)."""
