# The day of each week of the household's readings, as devices: what each bucket of each tier must have.
# In: householdpower.csv (time, then seven columns, a line a minute). Out: tier, device, number of the bucket, n, min, max, sum.
BEGIN { FS = ","; width["quarters"] = 15; width["hours"] = 60; width["days"] = 1440 }
NR == 1 { next }
{
  minute = (NR - 2) % 10080
  if (minute >= 1440) next
  week = int((NR - 2) / 10080)
  sub(/\r$/, "")
  for (column = 2; column <= NF; column++) {
    if ($column == "" || $column == "nan") continue
    value = $column + 0
    for (tier in width) {
      bucket = tier " house-" week "-" (column - 2) " " int(minute / width[tier])
      if (!(bucket in n)) { n[bucket] = 0; sum[bucket] = 0; min[bucket] = value; max[bucket] = value }
      n[bucket]++
      sum[bucket] += value
      if (value < min[bucket]) min[bucket] = value
      if (value > max[bucket]) max[bucket] = value
    }
  }
}
END { for (bucket in n) printf "%s %d %.17g %.17g %.17g\n", bucket, n[bucket], min[bucket], max[bucket], sum[bucket] }
