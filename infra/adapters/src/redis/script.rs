//! The atomic steps, as scripts that run inside Redis. Each answers a repeat as the port demands.

use std::sync::LazyLock;

use redis::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));)+
    };
}

scripts! {
    APPEND_POINTS = "append_points.lua",
    CREATE = "create.lua",
    DELETE = "delete.lua",
    DELETE_DOCUMENT = "delete_document.lua",
    LEAD = "lead.lua",
    OUTBOX = "outbox.lua",
    OUTBOX_DONE = "outbox_done.lua",
    PUT_DOCUMENT = "put_document.lua",
    REMOVE_POINTS = "remove_points.lua",
    REMOVE_WORKER = "remove_worker.lua",
    RENEW = "renew.lua",
    RESIGN = "resign.lua",
    SUBMIT_DOCUMENT = "submit_document.lua",
    UPDATE = "update.lua",
}
