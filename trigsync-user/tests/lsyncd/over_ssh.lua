settings {
    logfile = "/var/log/lsyncd/lsyncd.log",
    statusFile = "/var/log/lsyncd/lsyncd.status",
    pidfile = "/var/run/lsyncd.pid",
    nodaemon = false,
    insist = true,
    inotifyMode = "CloseWrite or Modify",
}

sync {
    default.rsyncssh,
    source = "$DIR/www",
    host = "deploy@web2",
    targetdir = "/srv/www",
    excludeFrom = "$DIR/exclude.txt",
    exclude = { ".git", "*.tmp", "/cache/" },
    delay = 5,
    rsync = {
        archive = true,
        compress = false,
        whole_file = false,
        _extra = { "--bwlimit=200", "--numeric-ids" },
    },
    ssh = {
        port = 2222,
        identityFile = "$DIR/id_ed25519",
        options = { StrictHostKeyChecking = "no", User = "ignored, since host has one" },
    },
}
