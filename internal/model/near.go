package model

// Distance is how many letters have to be put in, taken out, changed, or swapped with the next
// one to make one word another. It costs the product of their lengths.
func Distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			switch {
			case a[i] == b[j]:
				row[j+1] = last[j]
			case i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j]:
				row[j+1] = 1 + min(before[j-1], last[j], last[j+1], row[j])
			default:
				row[j+1] = 1 + min(last[j], last[j+1], row[j])
			}
		}
	}
	return row[len(b)]
}
