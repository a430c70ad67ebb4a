settings { logfile = "/var/log/lsyncd.log", "nodaemon" }
sync {
    default.rsync,
    source = "$DIR/www",
    target = "rsync_backup@172.16.1.41::backup/www",
    delete = true,
    rsync = {
        binary = "/usr/bin/rsync",
        archive = true,
        compress = true,
        verbose = true,
        bwlimit = 2000,
        timeout = 100,
        password_file = "$DIR/rsync.pas",
        chmod = "D755,F644",
        chown = "www:www",
        acls = true,
        xattrs = true,
        temp_dir = "/var/tmp",
        update = true,
        _extra = { "--port=874", "--omit-link-times", "--max-size=1g" },
    },
}
