module example.com/source-numbers

go 1.26
