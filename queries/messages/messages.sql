-- CreateMessage inserts a message. No row: the conversation has one with this
-- request id already (CreatedMessage reads it).
-- name: CreateMessage :one
insert into messages (conversation, author, body, request_id)
values (@conversation, @author, @body, sqlc.narg(request_id))
on conflict (conversation, request_id) where request_id is not null do nothing
returning id, conversation, author, body, create_time, update_time, etag;

-- CreatedMessage returns what an earlier CreateMessage with this request id
-- made, and whether that one had the same content.
-- name: CreatedMessage :one
select id, conversation, author, body, create_time, update_time, etag,
    coalesce(request_hash = message_request_hash(@author, @body), false)::boolean as same_content
from messages
where conversation = @conversation and request_id = @request_id::uuid;

-- GetMessage reads one message by its full name: a message is not to be found
-- under another conversation.
-- name: GetMessage :one
select id, conversation, author, body, create_time, update_time, etag
from messages
where conversation = @conversation and id = @id;

-- MessageExists tells a version that has passed from a message that is gone.
-- name: MessageExists :one
select exists (select from messages where conversation = @conversation and id = @id);

-- UpdateMessage sets the body. No row: no such message, or not of this etag.
-- Under READ COMMITTED a statement that had to wait for another writer looks at
-- the etag again.
-- name: UpdateMessage :one
update messages
set body = @body
where conversation = @conversation and id = @id
    and (sqlc.narg(etag)::uuid is null or etag = sqlc.narg(etag))
returning id, conversation, author, body, create_time, update_time, etag;

-- DeleteMessage returns how many rows it removed. 0: no such message, or not of
-- this etag.
-- name: DeleteMessage :execrows
delete from messages
where conversation = @conversation and id = @id
    and (sqlc.narg(etag)::uuid is null or etag = sqlc.narg(etag));

-- ListMessages returns messages of one conversation, newest first, from below
-- the key (before_time, before_id); without one, from the newest. The coalesce
-- keeps it one row comparison, which the index answers; an OR would be a filter.
-- It ends with the row that takes it above 1 MiB, by the measure of
-- row.bytes in server/messages: lengths are known without reading what is long.
-- name: ListMessages :many
select id, conversation, author, body, create_time, update_time, etag
from (
    select page.*, sum(octet_length(author) + octet_length(body) + 300) over (
        order by create_time desc, id desc rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select id, conversation, author, body, create_time, update_time, etag
        from messages
        where conversation = @conversation
            and (create_time, id) < (
                coalesce(sqlc.narg(before_time)::timestamptz, 'infinity'),
                coalesce(sqlc.narg(before_id)::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by create_time desc, id desc
        limit sqlc.arg(row_limit)
    ) as page
) as measured
where coalesce(bytes_before, 0) <= 1048576
order by create_time desc, id desc;

-- ListAllMessages is ListMessages for all conversations.
-- name: ListAllMessages :many
select id, conversation, author, body, create_time, update_time, etag
from (
    select page.*, sum(octet_length(author) + octet_length(body) + 300) over (
        order by create_time desc, id desc rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select id, conversation, author, body, create_time, update_time, etag
        from messages
        where (create_time, id) < (
                coalesce(sqlc.narg(before_time)::timestamptz, 'infinity'),
                coalesce(sqlc.narg(before_id)::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by create_time desc, id desc
        limit sqlc.arg(row_limit)
    ) as page
) as measured
where coalesce(bytes_before, 0) <= 1048576
order by create_time desc, id desc;
