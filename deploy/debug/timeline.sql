-- One job's events and what happened in its sagas, in the order of their times.
WITH happened AS (
    SELECT occurred_at, event_type AS what, coalesce(payload ->> 'new_state', payload ->> 'reason') AS detail, actor
      FROM domain_events WHERE correlation_id = :'job'
    UNION ALL
    SELECT occurred_at, saga_type || ' ' || event_type, coalesce(step_name, message), sagas.actor
      FROM saga_audit_events JOIN sagas ON sagas.id = saga_id WHERE correlation_id = :'job'
)
SELECT to_char(occurred_at, 'HH24:MI:SS.MS') AS at, occurred_at - min(occurred_at) OVER () AS after, what, detail, actor
  FROM happened ORDER BY occurred_at;
