-- Tables that others inherit from, and defaults that are changed for all.
default.rsync.rsync.archive = true
default.rsync.rsync.hard_links = true

local base = {
    default.rsync,
    delay = 1,
    exclude = { "*.bak", { "*.swp", "lost+found" } },
    rsync = { compress = true, _extra = { "--numeric-ids" } },
}

sync { base, source = "$DIR/www", target = "$DIR/mirror" }
sync {
    base,
    source = "$DIR/other",
    target = "$DIR/other mirror",
    exclude = "*.iso",
    rsync = { compress = false, one_file_system = true },
}
