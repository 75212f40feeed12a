package build

import (
	"archive/tar"
	"io/fs"
	"os"
	"syscall"
)

// The range of this machine's ids that stand for an image's ids 0 to 65535 when root runs the sandbox. It lies above
// what distributions give to users, subordinate ids and systemd's containers (systemd's UIDS-GIDS document calls it
// unused), so that no file or process of anyone else's is ever owned by the same id.
const (
	idBase  = 0x70000000
	idCount = 65536
)

// identity says which ids of this machine stand for those of an image.
type identity struct {
	// ranged tells that the image's ids 0 to 65535 have ids of their own, which only root can arrange. Otherwise the
	// user who runs this program stands for id 1000, and there are no others.
	ranged bool
}

// mapping is the user namespace's map.
func (i identity) mapping() (uids, gids []syscall.SysProcIDMap) {
	if i.ranged {
		m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: idBase, Size: idCount}}
		return m, m
	}
	return []syscall.SysProcIDMap{{ContainerID: connectorID, HostID: os.Geteuid(), Size: 1}},
		[]syscall.SysProcIDMap{{ContainerID: connectorID, HostID: os.Getegid(), Size: 1}}
}

// own gives a file, by its chown, to the id that stands for its owner.
func (i identity) own(h *tar.Header, chown func(uid, gid int) error) error {
	if !i.ranged {
		return nil
	}
	return chown(hostID(h.Uid), hostID(h.Gid))
}

// hostID is the id of this machine for an image's; those out of the range are nobody's.
func hostID(id int) int {
	if id < 0 || id >= idCount {
		id = 65534
	}
	return idBase + id
}

// mode is a file's mode. Where all files belong to the one user that there is, the owner's bits become those that user
// 1000 would have by the image's own owners, so that what Airbyte denies a connector is denied here too.
func (i identity) mode(h *tar.Header) fs.FileMode {
	perm := fs.FileMode(h.Mode) & fs.ModePerm
	if i.ranged || h.Uid == connectorID {
		return perm
	}
	mine := perm & 0o7
	if h.Gid == connectorID {
		mine = perm >> 3 & 0o7
	}
	return perm&^0o700 | mine<<6
}
