-- ListConversations returns conversations by name, from above after_name. It
-- hops from name to name on messages_by_conversation (a loose index scan), so
-- that a page costs its own conversations' messages and not the table. The name
-- after the last one asked for comes without being counted: it says that
-- there is a next page.
-- name: ListConversations :many
with recursive names (conversation, place) as (
    (
        select m.conversation, 1
        from messages as m
        where m.conversation > sqlc.arg(after_name)::text
        order by m.conversation
        limit 1
    )
    union all
    select next.conversation, names.place + 1
    from names
    cross join lateral (
        select m.conversation
        from messages as m
        where m.conversation > names.conversation
        order by m.conversation
        limit 1
    ) as next
    where names.place <= @page_size::int
)
select names.conversation::text as conversation,
    total.message_count::bigint as message_count,
    coalesce(total.last_message_time, 'epoch')::timestamptz as last_message_time
from names
cross join lateral (
    select count(*) as message_count, max(m.create_time) as last_message_time
    from messages as m
    where m.conversation = names.conversation and names.place <= @page_size::int
) as total
order by names.conversation;
