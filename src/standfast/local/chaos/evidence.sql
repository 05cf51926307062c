-- rows --
-- What is in the tables of the sample shop that chaos tickets change, as text.
SELECT 'customers' AS table_name, id::text AS key, credit::text AS value FROM shop.customers
UNION ALL
SELECT 'customers_audit', customer_id::text, to_char((changed ->> 'credit')::numeric, 'FM99999990.00')
FROM shop.customers_audit
UNION ALL
SELECT 'addresses', customer_id::text, street FROM shop.addresses
UNION ALL
SELECT 'support_history', customer_id::text, text FROM shop.support_history

-- ledger --
-- Every executed plan.
SELECT workflow_id, plan_digest FROM standfast.ledger

-- calls --
-- The journal of model calls.
SELECT workflow_id, activity_id, answer, recorded_at FROM standfast.model_call
