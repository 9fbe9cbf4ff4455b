// Package containerd is test-only: shell scripts that furnish a host of package lab
// for Debian's containerd. What that stores ends with the host.
package containerd

// Configure writes the configuration of a containerd without Kubernetes' part.
const Configure = `cat >/run/containerd.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
`

// Command is that containerd. It wants an /opt that can be written.
const Command = "containerd -l warn -c /run/containerd.toml"

// Image makes /run/image/image.tar, an image of lab-echo called Name, which waits
// if it is told nothing.
const Image = `mkdir -p /run/image
cd /run/image
mkdir root
cp $(command -v lab-echo) root/
tar -C root -cf layer.tar .
sum=$(sha256sum layer.tar)
echo '{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/lab-echo", "serve", "-udp", "9"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:'${sum%% *}'"]}}' >config.json
echo '[{"Config": "config.json", "RepoTags": ["` + Name + `"], "Layers": ["layer.tar"]}]' >manifest.json
tar -cf image.tar manifest.json config.json layer.tar
`

// Name is what Image is called.
const Name = "lab.example/echo:1"

// Ready waits until containerd answers.
const Ready = "until ctr version >/dev/null 2>&1; do sleep 0.05; done\n"
