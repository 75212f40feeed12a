// Command strip takes out of programs what is there for debuggers and linkers alone: about a third of a program that Go has
// built. It does not care what processor a program is for, as binutils' strip does, so that an image can be made for
// another one. The Dockerfile runs it by "go run" on the programs of BuildKit.
package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

func main() {
	for _, path := range os.Args[1:] {
		if err := strip(path); err != nil {
			fmt.Fprintf(os.Stderr, "strip %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

// strip cuts a program off behind its last segment. What the kernel and a dynamic linker read of a program are its
// segments; behind them lie the sections that belong to none, and the table of sections.
func strip(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	stripped, err := segments(content)
	if err != nil {
		return err
	}
	// The file is written in place, so that it keeps its owner and mode.
	return os.WriteFile(path, stripped, 0o755)
}

// segments is a program without what belongs to none of its segments.
func segments(content []byte) ([]byte, error) {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if file.Class != elf.ELFCLASS64 || file.Data != elf.ELFDATA2LSB || len(file.Progs) == 0 {
		return nil, errors.New("it is no program for 64 bits, the lower byte first")
	}
	var header elf.Header64
	if err := binary.Read(bytes.NewReader(content), binary.LittleEndian, &header); err != nil {
		return nil, err
	}
	end := header.Phoff + uint64(header.Phnum)*uint64(header.Phentsize)
	for _, segment := range file.Progs {
		end = max(end, segment.Off+segment.Filesz)
	}
	if end > uint64(len(content)) {
		return nil, errors.New("it ends before its last segment")
	}
	header.Shoff, header.Shnum, header.Shstrndx = 0, 0, 0
	var begin bytes.Buffer
	if err := binary.Write(&begin, binary.LittleEndian, header); err != nil {
		return nil, err
	}
	return append(begin.Bytes(), content[begin.Len():end]...), nil
}
