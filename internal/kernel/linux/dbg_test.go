package linux
import ("testing";"fmt";"github.com/sealane/sealane/internal/kstate")
func TestDbg(t *testing.T){
 for r:=0;r<30;r++ {
 t.Run("x",func(t *testing.T){
 k,dir:=start(t)
 sp:=sandboxes(t,k,dir,3)
 var at []kstate.Addr
 for i,ns:=range sp { o:=endpoint(ns,i); l:=o[0].(kstate.Link); l.Isolated=i<2; o[0]=l; apply(t,k,adds(o...)...); at=append(at,o[1].(kstate.Addr)) }
 ok:=hears(t,sp[0],sp[2],at[2].Prefix.Addr()); if ok { ok=hears(t,sp[2],sp[1],at[1].Prefix.Addr()); fmt.Println("second")}
 fmt.Println(ok)
 if !ok { fmt.Println(run(t,"ip -o link"), run(t,"nsenter --net=%s ip -o link", sp[0].Path), run(t,"nsenter --net=%s ip -s neigh", sp[0].Path), run(t,"bridge -d link"), run(t, "nsenter --net=%s ip -s -s link show eth0", sp[0].Path), run(t, "ip -s -s link"), run(t, "nsenter --net=%s ip -s -s link show eth0", sp[1].Path), run(t, "nsenter --net=%s ip -s -s link show eth0", sp[2].Path),run(t,"nsenter --net=%s ip -s neigh", sp[2].Path),run(t,"bridge fdb")) }
 })
 }
}
