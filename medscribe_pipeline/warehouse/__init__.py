"""The SQL warehouse: tables, migrations, transactions, locks and what is read back for people."""
