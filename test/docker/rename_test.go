package docker

import (
	"syscall"
	"testing"
)

// TestRename: names follow Docker's while containers run, whoever was away when
// they changed. Without Docker's events it would take half a minute.
func TestRename(t *testing.T) {
	w := both(t, "--live-restore")
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app --network-alias www")
	w.docker("network connect --alias rear back web")
	w.sealane("run -d --name ours --network app --network back -- sleep 1000")
	w.shows(named, "sealane ps", " web ", "back=")

	w.docker("rename web site")
	w.shows(named, "sealane ps", " site ", "!web")
	w.shows(named, "sealane exec ours -- lab-echo dns site", "10.70.0.2")
	w.reach("sealane:ours", "tcp://site:8000 10.70.0.3 web", "tcp://www:8000 10.70.0.3 web", "tcp://web:8000 no")
	w.docker("network disconnect back site")
	w.docker("network connect --alias other back site")
	w.shows(named, "sealane exec ours -- lab-echo dns other", "10.71.0.")
	w.shows(named, "sealane ps", " site ", "back=")

	// As Compose does, when it makes a container anew.
	w.docker("rename site 0123_site")
	w.run("site", "--network app")
	w.shows(named, "sealane ps", " 0123_site ", " site ", "!docker-")
	w.docker("rename site new")
	w.docker("rename 0123_site site")
	w.docker("rename new web")
	w.shows(named, "sealane ps", " site ", " web ", "!docker-", "!0123", "!new")
	w.docker("rm -f web")

	w.a.Kill9()
	w.docker("rename site web")
	w.a.Restart()
	w.shows(named, "sealane ps", " web ", "!site")
	w.stopDocker(syscall.SIGTERM)
	w.startDocker()
	w.docker("rename web site")
	w.shows(named, "sealane ps", " site ", "!web")
	w.docker("rename site web")
	w.shows(named, "sealane ps", " web ", "!site")

	// A name that is Sealane's own is left to it, and taken when it is free.
	w.sealane("run -d --name mine -- sleep 1000")
	w.docker("rename web mine")
	w.shows(named, "sealane ps", " mine ", " docker-mine ")
	w.sealane("rm -f mine")
	w.docker("network create elsewhere") // some event
	w.shows(named, "sealane ps", " mine ", "!docker-mine")
	w.docker("rename mine web")
	w.shows(named, "sealane ps", " web ", "back=", "!mine")
	w.reach("sealane:ours", "tcp://web:8000 10.70.0.3 web", "tcp://other:8000 10.71.0.3 web")
	w.asIntended()
}
