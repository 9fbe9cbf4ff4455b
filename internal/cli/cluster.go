package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Make several hosts one system, and say how it is"}
	c.AddCommand(a.clusterInit(), a.clusterJoin(), a.clusterToken(), a.clusterStatus(), a.clusterLeave())
	return c
}

// addrFlag says where others find this host.
func addrFlag(c *cobra.Command, to *string, usual string) {
	c.Flags().StringVar(to, "addr", "", "`ADDR` where the other hosts find this one (default "+usual+")")
}

// tellJoin prints what to type on the other hosts.
func (a *app) tellJoin(i api.Invitation) {
	fmt.Fprintf(a.Out, "sealane cluster join %s %s\n", i.Token, i.Member)
}

func (a *app) clusterInit() *cobra.Command {
	var req api.ClusterInit
	c := &cobra.Command{
		Use:   "init [FLAGS]",
		Short: "Begin a cluster with this host, and print what to type on the others",
		Long: `The line has a token that lets hosts in for 24 hours: it is a secret. sealane cluster
token prints the line again.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			i, err := a.client().InitCluster(c.Context(), req)
			if err == nil {
				a.tellJoin(i)
			}
			return err
		},
	}
	addrFlag(c, &req.Address, "that of the device with the default route")
	return c
}

func (a *app) clusterJoin() *cobra.Command {
	var req api.ClusterJoin
	c := &cobra.Command{
		Use:   "join [FLAGS] TOKEN MEMBER",
		Short: "Make this host one of a cluster",
		Long: `TOKEN and MEMBER, which is HOST or HOST:PORT, are what sealane cluster init prints on
the first host, and sealane cluster token later. With - for TOKEN it is read from
standard input, so that nobody sees it in the list of processes.`,
		Args: args(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			token, err := a.secret(args[0])
			if err != nil {
				return usage("cluster join: %s", err)
			}
			req.Token, req.Member = token, args[1]
			_, err = a.client().JoinCluster(c.Context(), req)
			return err
		},
	}
	addrFlag(c, &req.Address, "that by which it reaches MEMBER")
	return c
}

// secret is an argument, or the first line of standard input for "-".
func (a *app) secret(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.In, 4096)).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", fmt.Errorf("standard input: want a token: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	return line, nil
}

func (a *app) clusterToken() *cobra.Command {
	var req api.ClusterToken
	c := &cobra.Command{
		Use:   "token [FLAGS]",
		Short: "Print what to type on hosts that are to join",
		Long:  "Only the host that made the token can print it: the cluster keeps no more than a hash.\nOnly members make one: sealane cluster status lists them.",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			i, err := a.client().InviteToCluster(c.Context(), req)
			if err == nil {
				a.tellJoin(i)
			}
			return err
		},
	}
	c.Flags().BoolVar(&req.Rotate, "rotate", false, "make another token, for 24 hours; the one before lets nobody in any more")
	return c
}

func (a *app) clusterLeave() *cobra.Command {
	var req api.ClusterLeave
	c := &cobra.Command{
		Use:   "leave [FLAGS]",
		Short: "Take this host out of its cluster",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.client().LeaveCluster(c.Context(), req)
		},
	}
	c.Flags().BoolVar(&req.Force, "force", false, "even if the others cannot be told, or containers are on a network over hosts")
	return c
}

func (a *app) clusterStatus() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the cluster is, as seen from this host",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			s, err := a.client().Cluster(c.Context())
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(c.OutOrStdout(), s)
			}
			return show(c, &f, []api.Cluster{s}, func(w io.Writer) { tellCluster(w, s) })
		},
	}
	f.flags(c)
	return c
}

func tellCluster(w io.Writer, s api.Cluster) {
	if !s.In {
		fmt.Fprintln(w, "this host is in no cluster")
		return
	}
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", key, value)
		}
	}
	line("this host", strings.TrimSpace(s.Name+" "+s.Address+" "+s.Role))
	line("quorum", map[bool]string{true: "yes", false: "no: nothing can be changed until more members are back"}[s.Quorum])
	if s.Quorum {
		line("hosts", fmt.Sprint(s.Hosts))
	}
	line("problem", s.Problem)
	line("token ends", until(s.Token))
	line("certificate ends", until(s.Certificate))
	if len(s.Members) > 0 {
		fmt.Fprintln(w, "\nMEMBER\tURL\tVOTES\tSTATE")
	}
	for _, m := range s.Members {
		state := map[bool]string{true: "up", false: "does not answer"}[m.Healthy]
		if m.Leader {
			state += ", leads"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, m.URL, map[bool]string{true: "yes", false: "not yet"}[m.Voting], state)
	}
}

func until(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func (a *app) nodeCommand() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "Show and remove hosts of the cluster"}
	c.AddCommand(a.nodeInspect(), a.nodeLs(), a.nodeRm())
	return c
}

func (a *app) nodeLs() *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the hosts of the cluster",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			list, err := a.client().Nodes(c.Context())
			if err != nil {
				return err
			}
			return show(c, &f, list, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tNUMBER\tADDRESSES\tKEEPS DATA\tJOINED")
				for _, n := range list {
					var addrs []string
					for _, at := range n.Addresses {
						addrs = append(addrs, at.String())
					}
					number := ""
					if n.Number > 0 {
						number = fmt.Sprint(n.Number)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Name, dash(number), strings.Join(addrs, ","), map[bool]string{true: "yes", false: "no"}[n.Member], until(&n.Joined))
				}
			})
		},
	}
	f.flags(c)
	return c
}

func (a *app) nodeInspect() *cobra.Command {
	c := inspect("inspect NAME…", "Show hosts of the cluster as JSON", func(c *cobra.Command, name string) (api.NodeDetail, error) {
		return a.client().Node(c.Context(), name)
	})
	c.Example = "  sealane node inspect --format '{{.Role}}{{range .Subnets}} {{.Network}}: {{.Prefixes}}{{end}}' b"
	return c
}

func (a *app) nodeRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove another host from the cluster, which refuses it from then on",
		Long:  "Only members remove others. The token is of no use any more, as that host may know it:\nsealane cluster token --rotate makes another.",
		Args:  args(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.client().RemoveNode(c.Context(), args[0])
		},
	}
}
