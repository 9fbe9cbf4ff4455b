package docker

import (
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// stack is a Compose file: one service on both networks, published and with an
// address of its own, one on the internal network only.
const stack = `mkdir -p /run/stack
cat >/run/stack/docker-compose.yml <<'END'
version: "2.4"
services:
  web:
    image: echo
    command: /lab-echo serve -tcp 8000 -name web
    ports: ["8088:8000"]
    networks:
      front: {ipv4_address: 10.75.0.5, aliases: [www]}
      back: {}
  db:
    image: echo
    command: /lab-echo serve -tcp 8000 -name db
    networks: [back]
networks:
  front:
    driver: sealane
    driver_opts: {mtu: "1400"}
    ipam: {driver: sealane, config: [{subnet: 10.75.0.0/24, gateway: 10.75.0.254}]}
  back:
    driver: sealane
    internal: true
    ipam: {driver: sealane, config: [{subnet: 10.76.0.0/24}]}
END
cd /run/stack
docker-compose -p s `

// TestCompose brings a Compose file up, restarts a service of it and takes it
// down.
func TestCompose(t *testing.T) {
	lab.Needs(t, "docker-compose")
	w := both(t)
	before := w.state()
	w.sh(stack + "up -d")
	w.shows(named, "sealane ps", " s_web_1 ", "s_front=10.75.0.5", "8088->8000/tcp", " s_db_1 ")
	w.shows(named, "sealane network ls", " s_front ", " s_back ")
	check := func() {
		t.Helper()
		w.reach("b", "tcp://192.0.2.1:8088 192.0.2.2 web", "tcp://10.75.0.5:8000 no")
		w.reach("s_db_1", "tcp://192.0.2.2:8000 no")
		w.shows(named, w.enter("s_db_1", false)+"lab-echo get -timeout 2s http://web:8000/", "name web\n")
	}
	check()
	w.sh(stack + "restart -t 0 web")
	w.reach("b", "tcp://192.0.2.1:8088 192.0.2.2 web")
	w.sh(stack + "down -t 0")
	w.unchanged(before, "docker-compose down")
}
