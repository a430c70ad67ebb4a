----
-- The least that lsyncd runs with.
--
settings {
    statusFile = "/tmp/lsyncd.stat",
    statusInterval = 1,
}

sync {
    default.rsync,
    source = "$DIR/www/",
    target = "$DIR/mirror/",
}
