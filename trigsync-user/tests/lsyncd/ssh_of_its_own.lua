sync {
    default.rsyncssh,
    source = "www",
    host = "fe80::1",
    targetdir = "backup/",
    rsync = { binary = "/usr/local/bin/rsync-and-tell", perms = true },
    ssh = { binary = "/opt/bin/ssh", _extra = { "-4", "-F", "/etc/lsyncd/ssh", "-l", "deploy" } },
    sshExitCodes = { [1] = "again" },
    xargs = { binary = "/usr/bin/xargs" },
}
sync { default.rsync, source = "$DIR/other", target = "backup:" }
