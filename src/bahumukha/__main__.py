from bahumukha.cli import main

main()
