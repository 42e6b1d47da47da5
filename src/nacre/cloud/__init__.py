"""What the cloud is and may do: one package per domain. No HTTP, no subprocess, no root.

<domain>/tables.py      the domain's tables
<domain>/rules.py       pure checks and computations
<domain>/operations.py  plain functions of (connection, context, ...): what the API's verbs do
<domain>/policies.py    the domain's rows of the policy table
"""
