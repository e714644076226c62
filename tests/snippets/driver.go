package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"snippets/receiving"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var fields [6][]byte
		for i, encoded := range strings.Split(lines.Text(), " ") {
			field, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				panic(err)
			}
			fields[i] = field
		}
		headers := http.Header{}
		for _, line := range strings.Split(string(fields[5]), "\n") {
			name, value, _ := strings.Cut(line, ": ")
			headers.Set(name, value)
		}
		key, err := receiving.KeyOf(string(fields[0]))
		if err != nil {
			panic(err)
		}
		now, err := time.Parse(time.RFC3339Nano, string(fields[3]))
		if err != nil {
			panic(err)
		}
		fmt.Println(receiving.IsGenuine(key, string(fields[1]), string(fields[2]), headers, fields[4], now))
	}
}
