#!/usr/bin/lsyncd
settings = {
    logfile = "/tmp/lsyncd.log",
    delay = 3,
    maxProcesses = 2,
}
sync { default.rsync, source = "$DIR/www", target = "$DIR/mirror", rsyncOps = { "-ltus", "--numeric-ids" } }
