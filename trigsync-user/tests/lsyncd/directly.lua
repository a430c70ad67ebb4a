sync { default.direct, source = "$DIR/www", target = "$DIR/mirror", delay = 0, maxProcesses = 1 }
sync { default.direct, source = "$DIR/other", target = "$DIR/other mirror", delete = false, rsync = { owner = false }, onMove = true }
