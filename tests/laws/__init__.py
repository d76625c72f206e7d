"""What must survive any change: the order of the floors, the rules of the house, and budgets that may only be tightened."""
