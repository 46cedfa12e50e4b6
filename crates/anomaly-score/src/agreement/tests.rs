use super::table::tests::table;
use super::*;

fn question<'a>(score: &'a str, human: &'a str) -> Question<'a> {
    Question {
        score,
        human,
        group: None,
        mean_by: None,
        lower_is_better: false,
        bootstrap: BootstrapOptions { resamples: 500, ..Default::default() },
    }
}

/// Six models of two families, raters three, two or one each; one row lacks its score and one its rating.
const RATINGS: &str = "model,family,fd,rating\n\
    a,gan,10,1\na,gan,10,2\na,gan,10,3\nb,gan,8,3\nb,gan,8,4\nc,gan,9,2\n\
    d,diffusion,4,5\nd,diffusion,4,\ne,diffusion,5,4\nf,diffusion,6,6\nf,diffusion,,6\n";

#[test]
fn rows_are_counted_and_correlated() {
    let t = table("r.csv", RATINGS);
    let found = agreement(&t, 2, &Question { group: Some("family"), ..question("fd", "rating") }).unwrap();
    let rows = Rows { total: 13, used: 9, missing_score: 1, missing_human: 1, not_joined: 2 };
    assert_eq!(found.rows, rows);
    let names: Vec<&str> = found.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["diffusion", "gan"]);
    assert_eq!(found.groups[1].associations.n, 6);
    // scipy.stats of the nine rows: pearsonr, spearmanr, kendalltau.
    let values = [&found.pooled.pearson, &found.pooled.spearman, &found.pooled.kendall_tau_b];
    for (found, (value, p)) in values.into_iter().zip(NINE_ROWS) {
        assert!((found.estimate.value.unwrap() - value).abs() < 1e-12, "{found:?}");
        assert!((found.p_value.unwrap().p / p - 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!((found.estimate.n, found.estimate.seed), (9, Some(0)));
    }
    assert!(found.pooled.pearson.estimate.ci_high.unwrap() < -0.3);
}

/// Written by hand from `scipy.stats` 1.17.1.
const NINE_ROWS: [(f64, f64); 3] = [
    (-0.8093702576100404, 0.008219527486495248),
    (-0.8362379701808592, 0.004966313269422245),
    (-0.7077760731311632, 0.012433140345064996),
];

#[test]
fn units_are_means_and_direction_turns_accuracy_only() {
    let t = table("r.csv", RATINGS);
    let by_model = Question { mean_by: Some("model"), group: Some("family"), ..question("fd", "rating") };
    let found = agreement(&t, 0, &by_model).unwrap();
    assert_eq!((found.pooled.n, found.units.len()), (6, 6));
    let a = &found.units[0];
    assert_eq!((a.name.as_str(), a.human.value, a.human.n), ("a", Some(2.0), 3));
    assert!((a.human.std_error.unwrap() - 3f64.sqrt().recip()).abs() < 1e-15);
    assert_eq!(found.units[2].human.std_error, None);
    // Means: fd 10 8 9 4 5 6, rating 2 3.5 2 5 4 6. One pair has equal ratings; of the other 14 only (d, f) and (e, f)
    // have the higher rating with the higher fd.
    let accuracy = found.pooled.pairwise_accuracy.estimate.value.unwrap();
    assert!((accuracy - 2.0 / 14.0).abs() < 1e-15, "{accuracy}");
    let turned = agreement(&t, 0, &Question { lower_is_better: true, ..by_model }).unwrap();
    assert!((turned.pooled.pairwise_accuracy.estimate.value.unwrap() - 12.0 / 14.0).abs() < 1e-15);
    assert_eq!(turned.pooled.pearson, found.pooled.pearson);
}

#[test]
fn order_of_rows_does_not_matter() {
    let mut lines: Vec<&str> = RATINGS.lines().collect();
    lines[1..].reverse();
    let reversed = table("r.csv", &(lines.join("\n") + "\n"));
    let q = Question { group: Some("family"), ..question("fd", "rating") };
    let found = agreement(&reversed, 0, &q).unwrap();
    assert_eq!(json(&found).unwrap(), json(&agreement(&table("r.csv", RATINGS), 0, &q).unwrap()).unwrap());
}

#[test]
fn errors_say_what_there_is() {
    let t = table("r.csv", RATINGS);
    let error = agreement(&t, 0, &question("fid", "rating")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "r.csv: has no such column; expected \"fid\", found model, family, fd, rating"
    );
    let error = agreement(&t, 0, &question("fd", "family")).unwrap_err();
    assert!(error.to_string().starts_with("r.csv: line 2, column \"family\": not a number"), "{error}");
    let two = table("r.csv", "x,y\n1,2\n2,3\n3,\n");
    let error = agreement(&two, 0, &question("x", "y")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "r.csv: too little to correlate; expected at least 3 rows with both x and y, found 2"
    );
    let mixed = table("r.csv", "m,g,x,y\na,1,2,3\na,2,3,4\n");
    let error =
        agreement(&mixed, 0, &Question { group: Some("g"), mean_by: Some("m"), ..question("x", "y") });
    assert_eq!(
        error.unwrap_err().to_string(),
        "r.csv: \"a\" is in two groups; expected \"1\" as in line 2, found \"2\" in line 3"
    );
}

#[test]
fn every_form() {
    let t = table("r.csv", RATINGS);
    let q = Question { group: Some("family"), ..question("fd", "rating") };
    let found = agreement(&t, 2, &q).unwrap();
    insta::assert_snapshot!("terminal_of_groups", terminal(&found));
    insta::assert_snapshot!("json_of_groups", json(&found).unwrap());
    insta::assert_snapshot!("svg_of_groups", svg(&found));
    let by_model = Question { mean_by: Some("model"), lower_is_better: true, ..question("fd", "rating") };
    insta::assert_snapshot!("terminal_of_units", terminal(&agreement(&t, 0, &by_model).unwrap()));
}

/// A constant score has no correlation; the rest is told all the same.
#[test]
fn undefined_is_a_dash_with_its_reason() {
    let t = table("r.csv", "x,y\n1,1\n1,2\n1,3\n");
    let found = agreement(&t, 0, &question("x", "y")).unwrap();
    assert_eq!(found.pooled.pearson.estimate.value, None);
    assert_eq!(found.pooled.pairwise_accuracy.estimate.value, Some(0.5));
    let text = terminal(&found);
    assert!(
        text.contains("Pearson r: no interval, because the statistic is undefined for these data"),
        "{text}"
    );
}
